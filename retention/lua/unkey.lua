-- Remove a tenant's own key.
--
-- KEYS[1] the tenant keys  KEYS[2] tenants  KEYS[3] erasures
-- ARGV[1] id  ARGV[2] 1: unless the tenant is there
if ARGV[2] == '1' and redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then
  return
end
note_erasure(KEYS[3])
redis.call('HDEL', KEYS[1], ARGV[1])
