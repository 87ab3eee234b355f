-- Note that something was erased that Redis's files still show, at this moment (unix ms), or now when none is given: it
-- is what ran out by itself, and not later. Put before the scripts that erase, after `full`.
local function note_erasure(key, moment)
  even_if_full()
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  moment = math.min(tonumber(moment or now), now)
  if moment < tonumber(redis.call('HGET', key, 'since') or math.huge) then
    redis.call('HSET', key, 'since', moment)
  end
end

