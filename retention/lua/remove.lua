-- Remove a job with everything in it, and every entry that names it.
--
-- KEYS[1] the job  KEYS[2] the tenant's jobs  KEYS[3] due
-- ARGV[1] the revision that was decided upon, or empty: whatever is stored
-- ARGV[2] the job's entry in both
--
-- Returns 1 when nothing of the job is left; 0 when superseded: changed, deleted or expired since.
if ARGV[1] ~= '' and redis.call('HGET', KEYS[1], 'revision') ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[2])
redis.call('ZREM', KEYS[3], ARGV[2])
return 1
