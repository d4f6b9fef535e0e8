-- Whether this server has been cleared: put before the scripts that do what counts; alone it does nothing.
--
-- KEYS    those of the script behind it
-- ARGV    those of the script behind it; the last is the run id of the server that the call was sent to
-- Reads   cleared, of the database that is selected
-- Writes  cleared: '' in place of another server's
--
-- Returns nothing; defines is_cleared(), and is_cleared(true) to which a venue is cleared where that
-- never was done before: there is no journal yet that could have more
--
-- A server that took over, or was started again, has the mark of its predecessor among its data and so is
-- not cleared. That mark goes at the first look, because the predecessor may come back with these data.
-- Atomic as part of the script behind it, which calls this before its own first write.

local function is_cleared(or_new)
  local cleared = redis.call('GET', 'cleared')
  if cleared == ARGV[#ARGV] then
    return true
  end
  if cleared and cleared ~= '' then
    redis.call('SET', 'cleared', '')
  end
  return or_new and not cleared
end

