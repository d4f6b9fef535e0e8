-- Append to the ledger: put before the scripts that do so; alone it does nothing.
--
-- KEYS    those of the script behind it
-- ARGV    those of the script behind it
-- Reads   last of ledger
-- Writes  ledger
--
-- Returns nothing; defines append_to_ledger(encoded entry) -> the entry's number, its stamp in µs
--
-- Atomic as part of the script behind it. Numbers are dense, and stamps never fall.

local function append_to_ledger(entry)
  local time = redis.call('TIME')
  local stamp = time[1] .. string.format('%06d', time[2])
  local last = redis.call('XREVRANGE', 'ledger', '+', '-', 'COUNT', 1)[1]
  local n = (last and tonumber(string.match(last[1], '^(%d+)')) or 0) + 1
  if last and tonumber(last[2][4]) > tonumber(stamp) then
    stamp = last[2][4]
  end
  redis.call('XADD', 'ledger', n .. '-0', 'e', entry, 't', stamp)
  return n, stamp
end

