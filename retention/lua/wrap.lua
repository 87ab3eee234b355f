-- Whether a moment has passed by the clock of Redis. It is text as msgspec writes it: ISO 8601, in UTC.
local function has_passed(moment)
  local year, month, day, hour, minute, second = string.match(moment, '^(%d+)%-(%d+)%-(%d+)T(%d+):(%d+):([%d.]+)Z$')
  -- A year that begins with March ends with its leap day.
  local months = (month + 9) % 12
  local years = year - (months > 9 and 1 or 0)
  local days = 365 * years + math.floor(years / 4) - math.floor(years / 100) + math.floor(years / 400)
    + math.floor((153 * months + 2) / 5) + day - 719469
  local time = redis.call('TIME')
  return ((days * 24 + hour) * 60 + minute) * 60 + second <= time[1] + time[2] / 1000000
end

-- Whether a tenant lacks the key of its own under which all comes that it stores in a cell that it has to itself. It is
-- made before the tenant's jobs go there, and may have been taken away again by a move that was refused.
local function lacks_its_key(keys, tenants, tenant, cell)
  local known = cjson.decode(redis.call('HGET', tenants, tenant))
  return known.plan == 'premium' and known.cell == cell and redis.call('HEXISTS', keys, tenant) == 0
end

-- Whether a data key may be stored that is wrapped so: by the key that is its tenant's now, which has to be active and
-- not past its date, and under no version below the least that is alive. Put before the scripts that store wrapped keys.
local function may_wrap(keys, tenant, wrapped)
  local id, version = string.match(wrapped, '^([^@:]+)@(%d+):')
  local own = redis.call('HGET', keys, tenant)
  local record = own or redis.call('HGET', keys, 'common')
  if not record or id ~= (own and tenant or 'common') then
    return false
  end
  local key = cjson.decode(record)
  if type(key.expires) == 'string' and has_passed(key.expires) then
    return false
  end
  return key.state == 1 and tonumber(version) >= key.minimum
end

