-- Have what was erased until now wait for the rewrite of Redis's file that is about to begin.
--
-- KEYS[1] erasures
-- ARGV[1] which run of Redis this is  ARGV[2] the shortest time between two rewrites, in milliseconds
--
-- Returns the present moment when a rewrite is to begin; 0 when there is nothing to wait for, one is waited for already, or the last
-- one began too short a time ago.
local since, waiting, began = unpack(redis.call('HMGET', KEYS[1], 'since', 'waiting', 'began'))
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if not since or waiting or now - tonumber(began or 0) < tonumber(ARGV[2]) then
  return 0
end
redis.call('HDEL', KEYS[1], 'since', 'forked')
redis.call('HSET', KEYS[1], 'waiting', since, 'run', ARGV[1], 'began', now)
return now
