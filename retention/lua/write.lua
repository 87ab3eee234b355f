-- Write revision n of a job, if revision n - 1 is what is stored, and queue what is to be told of it.
--
-- KEYS[1] the job  KEYS[2] due  KEYS[3] tenants  KEYS[4] when the job's customer was erased
-- KEYS[5] queue of notifications  KEYS[6] its delivery  KEYS[7] its wake list  KEYS[8] its sequence
-- KEYS[9] what waits of the tenant  KEYS[10] its audio of today  KEYS[11] tenant keys
-- KEYS[12] erasures  KEYS[13..] lists that name the job
-- ARGV[1] n  ARGV[2] record  ARGV[3] the job's entry  ARGV[4] tenant id  ARGV[5] created  ARGV[6] expires
-- ARGV[7] due at  ARGV[8] when its upload began  ARGV[9] id, ARGV[10] body and ARGV[11] life of the delivery that
-- tells of it; no body: nothing is told
-- ARGV[12] bytes of audio and ARGV[13] API key of a first revision  ARGV[14] the most jobs that wait and ARGV[15] bytes
-- of the tenant, ARGV[16] and ARGV[17] of the key; empty: no limit
-- ARGV[18] milliseconds of audio that were decoded for a final revision; empty: it is not final
-- ARGV[19] the wrapped data key of a first revision, if it has one  ARGV[20] the cell
-- ARGV[21..] pairs of a field and its value; empty: drop the field
-- Times are unix milliseconds, the life milliseconds.
--
-- Returns 1 when written, or already written by the same call whose reply was lost;
--         0 when superseded: changed since, deleted or expired;
--        -1 when a first revision finds that its tenant is gone;
--        -2 when a first revision finds that its customer was erased after its upload began;
--        -3 when it finds as many jobs waiting as may, -4 when it finds as many bytes;
--        -5 when its data key is wrapped by a key that may not wrap any more;
--        -6 when its tenant is to have a key of its own, and has none yet.
local stored = tonumber(redis.call('HGET', KEYS[1], 'revision') or 0)
local n = tonumber(ARGV[1])
if stored == n and redis.call('HGET', KEYS[1], 'record') == ARGV[2] then
  return 1
end
if stored ~= n - 1 then
  return 0
end
if n == 1 and redis.call('HEXISTS', KEYS[3], ARGV[4]) == 0 then
  return -1
end
if n == 1 and tonumber(redis.call('GET', KEYS[4]) or -1) >= tonumber(ARGV[8]) then
  return -2
end
if n == 1 and lacks_its_key(KEYS[11], KEYS[3], ARGV[4], ARGV[20]) then
  return -6
end
if n == 1 and ARGV[19] ~= '' and not may_wrap(KEYS[11], ARGV[4], ARGV[19]) then
  return -5
end
local id = string.match(ARGV[3], '/(.-)/')
if n == 1 then
  for i, owner in ipairs({'', '/' .. ARGV[13]}) do
    if tonumber(redis.call('HGET', KEYS[9], 'jobs' .. owner) or 0) + 1 > (tonumber(ARGV[12 + 2 * i]) or math.huge) then
      return -3
    end
    local bytes = tonumber(redis.call('HGET', KEYS[9], 'bytes' .. owner) or 0) + ARGV[12]
    if bytes > (tonumber(ARGV[13 + 2 * i]) or math.huge) then
      return -4
    end
  end
  for _, owner in ipairs({'', '/' .. ARGV[13]}) do
    redis.call('HINCRBY', KEYS[9], 'jobs' .. owner, 1)
    redis.call('HINCRBY', KEYS[9], 'bytes' .. owner, ARGV[12])
  end
  redis.call('HSET', KEYS[9], id, ARGV[12] .. '/' .. ARGV[13])
end

even_if_full() -- a first revision has been refused above; a later one is of a job in hand, or of one that fails
redis.call('HSET', KEYS[1], 'revision', ARGV[1], 'record', ARGV[2])
for i = 21, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[1], ARGV[i])
    if ARGV[i] == 'key' then
      note_erasure(KEYS[12])
    end
  else
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
redis.call('PEXPIREAT', KEYS[1], ARGV[6])
redis.call('ZADD', KEYS[2], ARGV[7], ARGV[3])

local time = redis.call('TIME')
local left = tonumber(ARGV[6]) - (time[1] * 1000 + math.floor(time[2] / 1000))
for i = 13, #KEYS do
  redis.call('ZADD', KEYS[i], ARGV[5], ARGV[3])
  if redis.call('PTTL', KEYS[i]) < left then
    redis.call('PEXPIREAT', KEYS[i], ARGV[6])
  end
end
if redis.call('PTTL', KEYS[9]) < left then
  redis.call('PEXPIREAT', KEYS[9], ARGV[6])
end

if ARGV[18] ~= '' then
  local bytes, owner = string.match(redis.call('HGET', KEYS[9], id) or '', '^(%d+)(/.*)$')
  for _, of in ipairs(bytes and {'', owner} or {}) do
    redis.call('HINCRBY', KEYS[9], 'bytes' .. of, 0 - bytes)
    if redis.call('HINCRBY', KEYS[9], 'jobs' .. of, -1) == 0 then
      redis.call('HDEL', KEYS[9], 'jobs' .. of, 'bytes' .. of)
    end
    if ARGV[18] ~= '0' then
      redis.call('HINCRBY', KEYS[10], 'audio' .. of, ARGV[18])
    end
  end
  redis.call('HDEL', KEYS[9], id)
  redis.call('PEXPIREAT', KEYS[10], (math.floor(time[1] / 86400) + 1) * 86400000)
end

if ARGV[10] ~= '' then
  redis.call('PSETEX', KEYS[6], ARGV[11], ARGV[10])
  redis.call('ZADD', KEYS[5], 'NX', redis.call('INCR', KEYS[8]), ARGV[9])
  if redis.call('LLEN', KEYS[7]) == 0 then
    redis.call('LPUSH', KEYS[7], '1')
  end
end
return 1
