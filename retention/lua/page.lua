-- Read a page of the audit log, and its ends, as they are at the same moment.
--
-- KEYS[1] the log  KEYS[2] its ends
-- ARGV[1] from which id on  ARGV[2] how many records at most
return {
  redis.call('HMGET', KEYS[2], 'floor', 'head'),
  redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2]),
}
