-- Note how the rewrite ended that erasures waited for.
--
-- KEYS[1] erasures
-- ARGV[1] 1: the files show none of them any more; 0: they have to wait for another
local since, waiting, began = unpack(redis.call('HMGET', KEYS[1], 'since', 'waiting', 'began'))
if not waiting then
  return
end
redis.call('HDEL', KEYS[1], 'waiting', 'run', 'forked')
if ARGV[1] == '1' then
  redis.call('HSET', KEYS[1], 'clean', began)
else
  redis.call('HSET', KEYS[1], 'since', math.min(tonumber(waiting), tonumber(since or waiting)))
end
