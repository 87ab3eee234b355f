-- Put a value with a newly wrapped data key in the place of the same value with the old one; or drop that.
--
-- KEYS[1] the hash that holds it  KEYS[2] tenant keys  KEYS[3] erasures
-- ARGV[1] field  ARGV[2] the value before  ARGV[3] the value after, or empty to drop the
-- field  ARGV[4] tenant id  ARGV[5] the newly wrapped key
--
-- Returns 1 when done; 0 when the value is another by now, or the newly wrapped key may not be stored any more.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
even_if_full()
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
elseif may_wrap(KEYS[2], ARGV[4], ARGV[5]) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
else
  return 0
end
note_erasure(KEYS[3])
return 1
