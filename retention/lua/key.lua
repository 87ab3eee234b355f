-- Write revision n of a tenant key, if revision n - 1 is what is stored, or nothing and n is 1, while its tenant is there.
--
-- KEYS[1] the tenant keys  KEYS[2] tenants  KEYS[3] erasures
-- ARGV[1] id  ARGV[2] n  ARGV[3] the key
--
-- Returns 1 when written, or already written by the same call whose reply was lost; 0 when superseded, or its tenant is gone;
--        -1 when it was destroyed and its grace is over, and this is no purge: whoever writes was away since it looked.
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored == ARGV[3] then
  return 1
end
if ARGV[1] ~= 'common' and redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then
  return 0
end
local before = stored and cjson.decode(stored) or {revision = 0}
if before.revision ~= tonumber(ARGV[2]) - 1 then
  return 0
end
local after = cjson.decode(ARGV[3])
local is_purge = after.state == before.state and after.purge_at == cjson.null
if type(before.purge_at) == 'string' and has_passed(before.purge_at) and not is_purge then
  return -1
end
even_if_full()
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
if stored then
  note_erasure(KEYS[3])
end
return 1
