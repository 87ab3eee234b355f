-- Remove a tenant's own key, and its import token.
--
-- KEYS[1] the tenant keys  KEYS[2] tenants  KEYS[3] erasures  KEYS[4] when import tokens run out  KEYS[5] the token
-- ARGV[1] id  ARGV[2] 1: unless the tenant is there
if ARGV[2] == '1' and redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then
  return
end
note_erasure(KEYS[3], redis.call('ZSCORE', KEYS[4], KEYS[5]))
redis.call('ZREM', KEYS[4], KEYS[5])
redis.call('DEL', KEYS[5])
redis.call('HDEL', KEYS[1], ARGV[1])
