-- Lease up to n jobs of the queue to a worker: what was handed back and lapsed leases first, then
-- waiting jobs in their order.
--
-- KEYS[1] queue  KEYS[2] wake list
-- ARGV[1] the worker's token  ARGV[2] lease in milliseconds  ARGV[3] n
-- ARGV[4] 1 if lapsed leases may be taken, 0 while their owners may still come back
--
-- A score from 10^12 on is the end of a lease in unix milliseconds, 10^12 itself that of one handed
-- back; a smaller one is a place in the order. An entry without a delivery is a ghost and is dropped.
-- Returns the ids that are now leased to the token.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local wanted = tonumber(ARGV[3])
local claimed = {}

local function take(low, high)
  while #claimed < wanted do
    local ids = redis.call('ZRANGEBYSCORE', KEYS[1], low, high, 'LIMIT', 0, wanted - #claimed)
    if #ids == 0 then
      return
    end
    for _, id in ipairs(ids) do
      if redis.call('EXISTS', 'arq:job:' .. id) == 0 then
        redis.call('ZREM', KEYS[1], id)
      else
        redis.call('SET', 'arq:in-progress:' .. id, ARGV[1], 'PX', ARGV[2])
        redis.call('ZADD', KEYS[1], now + ARGV[2], id)
        claimed[#claimed + 1] = id
      end
    end
  end
end

take('1000000000000', '1000000000000')
if ARGV[4] == '1' then
  take('1000000000000', now)
end
take('-inf', '(1000000000000')

if #claimed == wanted and redis.call('LLEN', KEYS[2]) == 0 then
  if redis.call('ZCOUNT', KEYS[1], '-inf', '1000000000000') > 0 then
    redis.call('LPUSH', KEYS[2], '1')
  end
end
return claimed
