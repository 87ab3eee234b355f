-- Note what became of a notification, and end the lease on its delivery, if it is still the notifier's.
--
-- KEYS[1] queue of notifications  KEYS[2] wake list  KEYS[3] in progress  KEYS[4] the delivery
-- KEYS[5] arq's count of tries  KEYS[6] the job
-- ARGV[1] the notifier's token  ARGV[2] id of the delivery
-- ARGV[3] when to come back, in unix milliseconds, if there is more to tell
-- ARGV[4..] pairs of a field of the job and its value; empty: drop the field
--
-- A job that is gone gets no field: it would come back, without an expiry.
-- Returns 1 when noted, 0 when the lease is another's or has lapsed.
if redis.call('GET', KEYS[3]) ~= ARGV[1] then
  return 0
end
even_if_full()
if redis.call('EXISTS', KEYS[6]) == 1 then
  for i = 4, #ARGV, 2 do
    if ARGV[i + 1] == '' then
      redis.call('HDEL', KEYS[6], ARGV[i])
    else
      redis.call('HSET', KEYS[6], ARGV[i], ARGV[i + 1])
    end
  end
end
redis.call('DEL', KEYS[3])
if redis.call('HEXISTS', KEYS[6], 'started') + redis.call('HEXISTS', KEYS[6], 'ended') == 0 then
  redis.call('ZREM', KEYS[1], ARGV[2])
  redis.call('DEL', KEYS[4], KEYS[5])
  return 1
end
redis.call('ZADD', KEYS[1], 'XX', ARGV[3], ARGV[2])
local time = redis.call('TIME')
if tonumber(ARGV[3]) <= time[1] * 1000 + math.floor(time[2] / 1000) and redis.call('LLEN', KEYS[2]) == 0 then
  redis.call('LPUSH', KEYS[2], '1')
end
return 1
