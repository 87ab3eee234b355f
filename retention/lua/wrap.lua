-- Whether a data key may be stored that is wrapped so: by the key that is its tenant's now, which has to be active,
-- and under no version below the least that is alive. Put before the scripts that store wrapped keys.
local function may_wrap(keys, tenant, wrapped)
  local id, version = string.match(wrapped, '^([^@:]+)@(%d+):')
  local own = redis.call('HGET', keys, tenant)
  local record = own or redis.call('HGET', keys, 'common')
  if not record or id ~= (own and tenant or 'common') then
    return false
  end
  local key = cjson.decode(record)
  return key.state == 1 and tonumber(version) >= key.minimum
end

