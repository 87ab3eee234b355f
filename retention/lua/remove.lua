-- Remove a job with everything in it, and every entry that names it.
--
-- KEYS[1..n] the job, and what the request log has of it  KEYS[n+1..] due, and the lists that name it
-- The last two of KEYS: erasures, and what waits of the tenant
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
-- One that ran out was to be looked at in that moment; a score below 0 is less by 10^13.
local due = there == 0 and tonumber(redis.call('ZSCORE', KEYS[hashes + 1], ARGV[2]) or nil)
note_erasure(KEYS[#KEYS - 1], due and (due < 0 and due + 1e13 or due) or nil)
for i = 1, hashes do
  redis.call('DEL', KEYS[i])
end
for i = hashes + 1, #KEYS - 2 do
  redis.call('ZREM', KEYS[i], ARGV[2])
end

local waiting = KEYS[#KEYS]
local id = string.match(ARGV[2], '/(.-)/')
local bytes, owner = string.match(redis.call('HGET', waiting, id) or '', '^(%d+)(/.*)$')
for _, of in ipairs(bytes and {'', owner} or {}) do
  redis.call('HINCRBY', waiting, 'bytes' .. of, 0 - bytes)
  if redis.call('HINCRBY', waiting, 'jobs' .. of, -1) == 0 then
    redis.call('HDEL', waiting, 'jobs' .. of, 'bytes' .. of)
  end
end
redis.call('HDEL', waiting, id)
return 1 + there
