-- Make dead notifications of a job pending again, and queue them.
--
-- KEYS[1] the job  KEYS[2] queue of notifications  KEYS[3] its delivery  KEYS[4] its wake list  KEYS[5] its sequence
-- KEYS[6] in progress
-- ARGV[1] id, ARGV[2] body and ARGV[3] life in milliseconds of the delivery
-- ARGV[4..] pairs: field of the pending notification, its value
--
-- Returns how many were dead.
local revived = 0
for i = 4, #ARGV, 2 do
  if redis.call('HDEL', KEYS[1], 'dead.' .. ARGV[i]) == 1 then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    revived = revived + 1
  end
end
if revived > 0 then
  redis.call('PSETEX', KEYS[3], ARGV[3], ARGV[2])
  if redis.call('EXISTS', KEYS[6]) == 0 then
    -- It may be there, waiting for the next try of another notification.
    redis.call('ZADD', KEYS[2], redis.call('INCR', KEYS[5]), ARGV[1])
  end
  if redis.call('LLEN', KEYS[4]) == 0 then
    redis.call('LPUSH', KEYS[4], '1')
  end
end
return revived
