-- End a worker's lease, if it is still the worker's.
--
-- KEYS[1] queue  KEYS[2] wake list  KEYS[3] in progress  KEYS[4] the delivery  KEYS[5] arq's count of tries
-- ARGV[1] the worker's token  ARGV[2] job id  ARGV[3] 1: the job is done with; 0: it goes back
--
-- A job that goes back gets the score 10^12, a lease that ended long ago: it keeps its place before all
-- that wait, and is told from a lease that lapsed, whose owner may yet come back for it.
-- Returns 1 when settled, 0 when the lease is another's.
local owner = redis.call('GET', KEYS[3])
if owner and owner ~= ARGV[1] then
  return 0
end
even_if_full()
if ARGV[3] == '1' then
  redis.call('ZREM', KEYS[1], ARGV[2])
  redis.call('DEL', KEYS[3], KEYS[4], KEYS[5])
elseif owner then
  redis.call('ZADD', KEYS[1], 'XX', '1000000000000', ARGV[2])
  redis.call('DEL', KEYS[3])
  if redis.call('LLEN', KEYS[2]) == 0 then
    redis.call('LPUSH', KEYS[2], '1')
  end
end
return 1
