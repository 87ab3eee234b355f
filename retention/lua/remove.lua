-- Remove a job with everything in it, and every entry that names it.
--
-- KEYS[1..n] the job, and what the request log has of it  KEYS[n+1..] due, and the lists that name it
-- The last of KEYS: erasures
-- ARGV[1] the revision that was decided upon, or empty: whatever is stored
-- ARGV[2] the job's entry in them  ARGV[3] n; 1: what the request log has of it stays
--
-- Returns 2 when the job is removed, 1 when there was none, and in neither case is anything of it left;
--         0 when superseded: changed, deleted or expired since.
if ARGV[1] ~= '' and redis.call('HGET', KEYS[1], 'revision') ~= ARGV[1] then
  return 0
end
local there = redis.call('EXISTS', KEYS[1])
local hashes = tonumber(ARGV[3])
for i = 1, hashes do
  redis.call('DEL', KEYS[i])
end
for i = hashes + 1, #KEYS - 1 do
  redis.call('ZREM', KEYS[i], ARGV[2])
end
note_erasure(KEYS[#KEYS])
return 1 + there
