-- Note that Redis has begun the rewrite for which erasures wait, if it is still that one.
--
-- KEYS[1] erasures
-- ARGV[1] when it was to begin, as `rewrite` returned it
if redis.call('HGET', KEYS[1], 'began') == ARGV[1] and redis.call('HEXISTS', KEYS[1], 'waiting') == 1 then
  even_if_full()
  redis.call('HSET', KEYS[1], 'forked', 1)
end
