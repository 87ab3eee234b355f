-- Replace a field of a hash, if it is still what was read.
--
-- KEYS[1] the hash
-- ARGV[1] field  ARGV[2] the value before  ARGV[3] the value after
--
-- Returns 1 when replaced, or replaced already by the same call whose reply was lost; 0 when it is another, or gone.
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored ~= ARGV[2] then
  return stored == ARGV[3] and 1 or 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
