-- Find a tenant and its API key, and take tokens from both their buckets if both have one.
--
-- KEYS[1] tenants  KEYS[2] API keys  KEYS[3] the tenant's bucket  KEYS[4] the key's; without them nothing is counted
-- ARGV[1] tenant id  ARGV[2] id of the key  ARGV[3] name of the limit, as in their records
-- ARGV[4] the tenant's, unless its record says another  ARGV[5] how many tokens
-- ARGV[6] the most that any request takes of it  ARGV[7] milliseconds for which an idle bucket is kept
--
-- A bucket is the moment at which it will be full again, in unix microseconds (GCRA). It holds the tokens of a
-- second, and at least one. Who asks for more is let in by the first, and owes the rest: as long as others take each
-- one that comes, there would never be more at once. A lost reply costs them.
--
-- Returns the records of the tenant and of the key, and the microseconds until both have one, 0 when they had;
--         nothing when there is no such tenant or no such key.

-- Not into the append-only file: each poll would wait for the disk, and a restart may well fill the buckets.
-- (Where Redis does not let a script choose, it costs that time.)
pcall(redis.set_repl, redis.REPL_NONE)

local tenant = redis.call('HGET', KEYS[1], ARGV[1])
local key = redis.call('HGET', KEYS[2], ARGV[2])
if not tenant or not key then
  return false
end
if not KEYS[3] then
  return {tenant, key, 0}
end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local rates = {
  (cjson.decode(tenant).limits or {})[ARGV[3]] or tonumber(ARGV[4]),
  (cjson.decode(key).limits or {})[ARGV[3]] or 0,
}
local full = {}
local wait = 0
for i, rate in ipairs(rates) do
  if rate > 0 then
    local token = 1000000 / rate
    local room = math.max(0, 1000000 - token)
    -- Not longer than this rate would have it: what was counted under a lower one counts no more.
    local most = now + room + ARGV[6] * token
    local at = math.min(math.max(tonumber(redis.call('GET', KEYS[2 + i]) or 0), now), most)
    wait = math.max(wait, at - now - room)
    full[i] = at + ARGV[5] * token
  end
end
if wait < 1 then
  wait = 0
  if next(full) then
    even_if_full() -- whoever is let in may want to erase
  end
  for i, at in pairs(full) do
    redis.call('SET', KEYS[2 + i], string.format('%.0f', at), 'PX', math.ceil((at - now) / 1000) + ARGV[7])
  end
end
return {tenant, key, math.ceil(wait)}
