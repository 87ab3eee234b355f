-- Write revision n of a tenant key, if revision n - 1 is what is stored, or nothing and n is 1.
--
-- KEYS[1] the tenant keys  KEYS[2] erasures
-- ARGV[1] id  ARGV[2] n  ARGV[3] the key
--
-- Returns 1 when written, or already written by the same call whose reply was lost; 0 when superseded.
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored == ARGV[3] then
  return 1
end
local revision = stored and cjson.decode(stored).revision or 0
if revision ~= tonumber(ARGV[2]) - 1 then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
if stored then
  note_erasure(KEYS[2])
end
return 1
