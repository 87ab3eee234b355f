-- Write revision n of a tenant key, if revision n - 1 is what is stored, or nothing and n is 1, while its tenant is there.
--
-- KEYS[1] the tenant keys  KEYS[2] tenants  KEYS[3] erasures
-- ARGV[1] id  ARGV[2] n  ARGV[3] the key
--
-- Returns 1 when written, or already written by the same call whose reply was lost; 0 when superseded, or its tenant is gone.
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored == ARGV[3] then
  return 1
end
if ARGV[1] ~= 'common' and redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then
  return 0
end
local revision = stored and cjson.decode(stored).revision or 0
if revision ~= tonumber(ARGV[2]) - 1 then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
if stored then
  note_erasure(KEYS[3])
end
return 1
