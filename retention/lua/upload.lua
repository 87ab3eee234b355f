-- Let an upload begin, unless something of its tenant, or of its API key, is at its limit.
--
-- KEYS[1] what waits of the tenant  KEYS[2] its audio of today  KEYS[3] its uploads under way  KEYS[4] the key's
-- ARGV[1] id of the key  ARGV[2] name of the upload  ARGV[3] its lease in ms  ARGV[4] bytes that are announced
-- ARGV[5..] the most jobs that wait, bytes that wait, uploads and seconds of audio, each of the tenant and of the key;
-- empty: no limit
--
-- Returns which limit is reached (1 to 4, 0: none, and the upload has begun), the milliseconds until the day's audio
-- begins anew, and the time in unix milliseconds.

-- Not into the append-only file: a lease outlives no restart that takes as long as it.
pcall(redis.set_repl, redis.REPL_NONE)

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i, owner in ipairs({'', '/' .. ARGV[1]}) do
  local uploads = redis.call('ZCOUNT', KEYS[2 + i], '(' .. now, '+inf')
  local jobs = tonumber(redis.call('HGET', KEYS[1], 'jobs' .. owner) or 0)
  local bytes = tonumber(redis.call('HGET', KEYS[1], 'bytes' .. owner) or 0)
  local audio = tonumber(redis.call('HGET', KEYS[2], 'audio' .. owner) or 0) / 1000
  for limit, next in ipairs({jobs + 1, bytes + ARGV[4], uploads + 1, audio + 0.001}) do
    local most = tonumber(ARGV[2 * limit + 2 + i])
    if most and next > most then
      return {limit, redis.call('PTTL', KEYS[2]), now}
    end
  end
end
for i = 3, 4 do
  redis.call('ZADD', KEYS[i], now + ARGV[3], ARGV[2]) -- first: a full Redis refuses it only then
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
  redis.call('PEXPIRE', KEYS[i], ARGV[3])
end
return {0, 0, now}
