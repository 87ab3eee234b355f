-- Begin the audit log anew, with one record, in the place of whatever is there.
--
-- KEYS[1] the log  KEYS[2] its ends
-- ARGV[1] the floor  ARGV[2] the head  ARGV[3] the record's id  ARGV[4] the record  ARGV[5] its hash
--
-- Returns 1. When the reply was lost, the same call again takes away nothing that was appended since: it has made a
-- floor that no other call makes. What is there may be anything, and so may not be what can be read.
if redis.pcall('HGET', KEYS[2], 'floor') == ARGV[1] then
  return 1
end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('XADD', KEYS[1], ARGV[3], 'record', ARGV[4], 'hash', ARGV[5])
redis.call('HSET', KEYS[2], 'floor', ARGV[1], 'head', ARGV[2])
return 1
