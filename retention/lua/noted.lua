-- Note that something was erased that Redis's files still show. Put before the scripts that erase.
local function note_erasure(key)
  local time = redis.call('TIME')
  redis.call('HSETNX', key, 'since', time[1] * 1000 + math.floor(time[2] / 1000))
end

