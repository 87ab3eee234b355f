-- Let go of the beginning of the audit log, if its floor is still the one from which that was looked at.
--
-- KEYS[1] the log  KEYS[2] its ends
-- ARGV[1] the floor before  ARGV[2] the floor afterwards  ARGV[3] the id of the first record that stays
--
-- Returns 1 when it is gone, or already gone by the same call whose reply was lost; 0 when the floor is another.
local floor = redis.call('HGET', KEYS[2], 'floor')
if floor == ARGV[2] then
  return 1
end
if floor ~= ARGV[1] then
  return 0
end
redis.call('XTRIM', KEYS[1], 'MINID', '=', ARGV[3])
redis.call('HSET', KEYS[2], 'floor', ARGV[2])
return 1
