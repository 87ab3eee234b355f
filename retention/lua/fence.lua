-- Refuse from this moment on what began before it, or begins in it, for a customer who is being erased.
--
-- KEYS[1] when the customer was erased
-- ARGV[1] for how long that matters, in milliseconds
--
-- The moment is taken here: between a clock read before and the fence a record could be written, which is neither
-- refused nor older than the erasure. A clock that was set back does not take back what an earlier fence refuses.
-- Returns the moment, in unix milliseconds.
local time = redis.call('TIME')
local moment = time[1] * 1000 + math.floor(time[2] / 1000)
moment = math.max(moment, tonumber(redis.call('GET', KEYS[1]) or 0))
even_if_full()
redis.call('SET', KEYS[1], string.format('%.0f', moment), 'PX', ARGV[1])
return moment
