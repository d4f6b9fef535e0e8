-- Copies of reports for drop-copy sessions: put before the scripts that write outboxes; alone it does nothing.
--
-- KEYS    those of the script behind it
-- ARGV    those of the script behind it
-- Reads   copies
-- Writes  nothing
--
-- Returns nothing; defines any_copies, false where nobody gets any, and copies_of(account) -> the accounts that get a copy of what this one is told, a table;
--         nil where nobody does
--
-- A copy is the entry itself in another outbox, with two fields more: a, the account that it tells something,
-- and i, its number in that account's outbox. Atomic with the original: there is one of each, or none of either.
-- A venue without drop copies pays one EXISTS per call; else one HGET per account and call.

local any_copies, copies_by_account = redis.call('EXISTS', 'copies') == 1, {}

local function copies_of(account)
  if not any_copies then
    return nil
  end
  local found = copies_by_account[account]
  if found == nil then
    found = false
    local names = redis.call('HGET', 'copies', account)
    if names then
      found = {}
      for name in string.gmatch(names, '%d+') do
        found[#found + 1] = tonumber(name)
      end
    end
    copies_by_account[account] = found
  end
  return found or nil
end

