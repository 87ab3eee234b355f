-- Keep the key of the audit log, unless there is one, and begin the log with it: there is never one without the other.
--
-- KEYS[1] keys of the service  KEYS[2] the ends of the log
-- ARGV[1] the key's name  ARGV[2] the key, wrapped  ARGV[3] the floor  ARGV[4] the head, both of a log that is empty
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 1 then
  redis.call('HSETNX', KEYS[2], 'floor', ARGV[3])
  redis.call('HSETNX', KEYS[2], 'head', ARGV[4])
end
