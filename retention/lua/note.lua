-- Note an erasure that no other script makes.
--
-- KEYS[1] erasures
note_erasure(KEYS[1])
