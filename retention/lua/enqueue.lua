-- Put a job into the queue, behind all that wait, unless the queue holds it or the job is gone. Safe to repeat.
--
-- KEYS[1] queue  KEYS[2] the delivery (arq's job)  KEYS[3] wake list  KEYS[4] sequence  KEYS[5] the job
-- ARGV[1] job id  ARGV[2] body of the delivery  ARGV[3] its life in milliseconds
--
-- Returns 1 when put, 0 when the queue held it already, or must not: a job erased a moment ago would be named again.
if redis.call('EXISTS', KEYS[5]) == 0 then
  return 0
end
if redis.call('EXISTS', KEYS[2]) == 1 and redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
even_if_full() -- the job is there already
redis.call('PSETEX', KEYS[2], ARGV[3], ARGV[2])
redis.call('ZADD', KEYS[1], 'NX', redis.call('INCR', KEYS[4]), ARGV[1])
if redis.call('LLEN', KEYS[3]) == 0 then
  redis.call('LPUSH', KEYS[3], '1')
end
return 1
