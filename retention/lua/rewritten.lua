-- Note how the rewrite ended that erasures waited for.
--
-- KEYS[1] erasures
-- ARGV[1] 1: the files show none of them any more; 0: they have to wait for another  ARGV[2] when it was to begin
--
-- Another one than was looked at, of whoever is as late, is left to whoever looks at that.
local since, waiting, began, run = unpack(redis.call('HMGET', KEYS[1], 'since', 'waiting', 'began', 'run'))
if not waiting or began ~= ARGV[2] then
  return
end
redis.call('HDEL', KEYS[1], 'waiting', 'run', 'forked')
if ARGV[1] == '1' then
  redis.call('HSET', KEYS[1], 'clean', began, 'rewritten', run)
else
  redis.call('HSET', KEYS[1], 'since', math.min(tonumber(waiting), tonumber(since or waiting)))
end
