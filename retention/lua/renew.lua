-- Renew a worker's leases, and tell which are lost.
--
-- KEYS[1] queue
-- ARGV[1] the worker's token  ARGV[2] lease in milliseconds
-- ARGV[3..] triples: job id, key of the job, the revision the worker holds (0: none yet)
--
-- A lease that lapsed during an outage is retaken if nobody else took it and the worker's revision
-- still stands. A job that is no longer in the queue was removed: its lease is lost.
-- Returns the ids whose leases are lost.
local time = redis.call('TIME')
local until_ = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2]
local lost = {}
even_if_full()
for i = 3, #ARGV, 3 do
  local id = ARGV[i]
  local in_progress = 'arq:in-progress:' .. id
  local owner = redis.call('GET', in_progress)
  local ours = owner == ARGV[1]
    or (not owner and ARGV[i + 2] ~= '0' and redis.call('HGET', ARGV[i + 1], 'revision') == ARGV[i + 2])
  if ours and redis.call('ZSCORE', KEYS[1], id) then
    redis.call('SET', in_progress, ARGV[1], 'PX', ARGV[2])
    redis.call('ZADD', KEYS[1], until_, id)
  else
    lost[#lost + 1] = id
  end
end
return lost
