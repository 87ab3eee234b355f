-- Do commands in one step, also while Redis is full; within MULTI that refuses all, even reads. Note it, if they erase.
--
-- KEYS[1] erasures, if they do  KEYS[2] a sorted set of the moments at which what it has runs out by itself, if they
-- erase what is of such
-- ARGV[1] how many of its members are erased  ARGV[2..] these, and then for each command how many words it has, and they
--
-- Returns their replies.
even_if_full()
local members = tonumber(ARGV[1])
if KEYS[1] then
  local moments = {}
  for i = 1, members do
    moments[i] = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1 + i]) or math.huge)
  end
  note_erasure(KEYS[1], math.min(math.huge, unpack(moments)))
end
local replies = {}
local at = members + 2
while at <= #ARGV do
  local last = at + ARGV[at]
  replies[#replies + 1] = redis.call(unpack(ARGV, at + 1, last))
  at = last + 1
end
return replies
