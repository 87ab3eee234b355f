-- Keep a completed job in the request log, with the wrapped key and the sealed result that its own hash holds.
--
-- KEYS[1] the job  KEYS[2] its entry in the log  KEYS[3] tenants  KEYS[4] when the job's customer was erased
-- KEYS[5] all entries of the log  KEYS[6..] lists of the log that name the job
-- ARGV[1] the revision that completed the job  ARGV[2] tenant id  ARGV[3] the tenant, as it was when asked for its
-- opt-out  ARGV[4] the job's entry in the lists  ARGV[5] created  ARGV[6] expires  ARGV[7] record
-- ARGV[8] sealed submission
-- Times are unix milliseconds.
--
-- Returns 1 when kept; 0 when it must not be: the job was deleted, erased or expired since it completed, its
-- customer was erased since it was accepted, its tenant is gone, or has changed and may have opted out.
if redis.call('HGET', KEYS[1], 'revision') ~= ARGV[1] then
  return 0
end
if redis.call('HGET', KEYS[3], ARGV[2]) ~= ARGV[3] then
  return 0
end
if tonumber(redis.call('GET', KEYS[4]) or -1) >= tonumber(ARGV[5]) then
  return 0
end

local sealed = redis.call('HMGET', KEYS[1], 'key', 'result')
redis.call('HSET', KEYS[2], 'record', ARGV[7], 'key', sealed[1], 'submission', ARGV[8], 'result', sealed[2])
redis.call('PEXPIREAT', KEYS[2], ARGV[6])

local time = redis.call('TIME')
local left = tonumber(ARGV[6]) - (time[1] * 1000 + math.floor(time[2] / 1000))
for i = 5, #KEYS do
  redis.call('ZADD', KEYS[i], i == 5 and ARGV[6] or ARGV[5], ARGV[4])
  if i == 5 then
    redis.call('PERSIST', KEYS[i]) -- it tells when its last entry ran out
  elseif redis.call('PTTL', KEYS[i]) < left then
    redis.call('PEXPIREAT', KEYS[i], ARGV[6])
  end
end
return 1
