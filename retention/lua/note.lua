-- Note an erasure that no other script makes.
--
-- KEYS[1] erasures  KEYS[2] a sorted set of the moments at which what it has runs out by itself, if it is of such
-- ARGV[1..] what is erased of that
local moments = {}
for i, member in ipairs(ARGV) do
  moments[i] = tonumber(redis.call('ZSCORE', KEYS[2], member) or math.huge)
end
note_erasure(KEYS[1], math.min(math.huge, unpack(moments)))
