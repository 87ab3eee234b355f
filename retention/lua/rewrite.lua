-- Have what was erased until now wait for the rewrite of Redis's file that is about to begin.
--
-- KEYS[1] erasures  KEYS[2] what runs out
-- ARGV[1] which run of Redis this is  ARGV[2] the shortest time between two rewrites, in milliseconds
--
-- What ran out is removed here: Redis may not have got round to it, and would write it into the new file, too.
-- Returns the present moment when a rewrite is to begin; 0 when there is nothing to wait for, one is waited for already, or the last
-- one began too short a time ago.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local over = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'WITHSCORES')
for i = 1, #over, 2 do
  note_erasure(KEYS[1], over[i + 1])
  redis.call('DEL', over[i])
  redis.call('ZREM', KEYS[2], over[i])
end
local since, waiting, began, rewritten = unpack(redis.call('HMGET', KEYS[1], 'since', 'waiting', 'began', 'rewritten'))
if waiting or (not since and rewritten == ARGV[1]) or now - tonumber(began or 0) < tonumber(ARGV[2]) then
  return 0
end
redis.call('HDEL', KEYS[1], 'since', 'forked')
redis.call('HSET', KEYS[1], 'waiting', since or now, 'run', ARGV[1], 'began', now)
return now
