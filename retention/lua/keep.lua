-- Keep a key of Redis's for a while, in the place of what it was, and remember when it runs out by itself.
--
-- KEYS[1] the key  KEYS[2] what runs out  KEYS[3] erasures
-- ARGV[1] its value  ARGV[2] for how long, in milliseconds
local before = redis.call('ZSCORE', KEYS[2], KEYS[1])
local time = redis.call('TIME')
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if before then
  note_erasure(KEYS[3], before) -- not first: it would let a full Redis take the key
end
redis.call('ZADD', KEYS[2], time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2], KEYS[1])
