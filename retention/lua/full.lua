-- Let the script write from here on, though Redis be full. Redis then refuses a script what takes memory, but not once it
-- has written: it could not be stopped half-way. A removal is never refused, and is a write also when nothing is there.
-- (Flags of a script would say it, but Redis 6.2 has none.) Put before the scripts that erase, or without which what is
-- erased or denied would not be known, or would be worked on.
local function even_if_full()
  redis.call('DEL', 'volant:nothing')
end

