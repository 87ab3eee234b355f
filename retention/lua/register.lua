-- Keep a registration of a callback URL, unless its tenant is gone or its customer was erased meanwhile, or what was
-- there before is not what the new one was made from.
--
-- KEYS[1] the tenant's registrations  KEYS[2] tenants  KEYS[3] when its customer was erased
-- KEYS[4] tenant keys  KEYS[5] erasures
-- ARGV[1] tag of the URL  ARGV[2] the registration  ARGV[3] tenant id  ARGV[4] when registering began (unix ms)
-- ARGV[5] the registration before, or empty  ARGV[6] its wrapped data key  ARGV[7] the cell
--
-- Returns 1 when kept, or kept already by the same call whose reply was lost; 0 when it changed meanwhile;
--        -1 when the tenant is gone; -2 when the customer was erased;
--        -3 when its data key is wrapped by a key that may not wrap any more;
--        -4 when its tenant is to have a key of its own, and has none yet.
if redis.call('HEXISTS', KEYS[2], ARGV[3]) == 0 then
  return -1
end
if tonumber(redis.call('GET', KEYS[3]) or -1) >= tonumber(ARGV[4]) then
  return -2
end
local stored = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if stored == ARGV[2] then
  return 1
end
if stored ~= ARGV[5] then
  return 0
end
if lacks_its_key(KEYS[4], KEYS[2], ARGV[3], ARGV[7]) then
  return -4
end
if not may_wrap(KEYS[4], ARGV[3], ARGV[6]) then
  return -3
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if stored ~= '' then
  note_erasure(KEYS[5]) -- last: it would let a full Redis take the registration
end
return 1
