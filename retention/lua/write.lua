-- Write revision n of a job, if revision n - 1 is what is stored.
--
-- KEYS[1] the job  KEYS[2] the tenant's jobs  KEYS[3] due  KEYS[4] tenants
-- ARGV[1] n  ARGV[2] record  ARGV[3] the job's entry  ARGV[4] tenant id  ARGV[5] created  ARGV[6] expires
-- ARGV[7] due at  ARGV[8..] pairs of a field and its value; empty: drop the field
-- Times are unix milliseconds.
--
-- Returns 1 when written, or already written by the same call whose reply was lost;
--         0 when superseded: changed since, deleted or expired;
--        -1 when a first revision finds that its tenant is gone.
local stored = tonumber(redis.call('HGET', KEYS[1], 'revision') or 0)
local n = tonumber(ARGV[1])
if stored == n and redis.call('HGET', KEYS[1], 'record') == ARGV[2] then
  return 1
end
if stored ~= n - 1 then
  return 0
end
if n == 1 and redis.call('HEXISTS', KEYS[4], ARGV[4]) == 0 then
  return -1
end

redis.call('HSET', KEYS[1], 'revision', ARGV[1], 'record', ARGV[2])
for i = 8, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[1], ARGV[i])
  else
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
redis.call('PEXPIREAT', KEYS[1], ARGV[6])
redis.call('ZADD', KEYS[3], ARGV[7], ARGV[3])

redis.call('ZADD', KEYS[2], ARGV[5], ARGV[3])
local time = redis.call('TIME')
local left = tonumber(ARGV[6]) - (time[1] * 1000 + math.floor(time[2] / 1000))
if redis.call('PTTL', KEYS[2]) < left then
  redis.call('PEXPIREAT', KEYS[2], ARGV[6])
end
return 1
