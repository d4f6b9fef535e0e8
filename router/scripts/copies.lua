-- Copies of reports for drop-copy sessions: put before the scripts that write outboxes; alone it does nothing.
--
-- KEYS    those of the script behind it
-- ARGV    those of the script behind it
-- Reads   copies, length of outbox:{account}
-- Reads and writes  lost
--
-- Returns nothing; defines any_copies, false where nobody gets any; copies_of(account) -> the accounts that get a
--         copy of what this one is told, a table; nil where nobody does; takes_copy(account) -> whether the next
--         one is to be put into its outbox; and full, a table of the accounts that took no more from this call on
--
-- A copy is the entry itself in another outbox, with two fields more: a, the account that it tells something,
-- and i, its number in that account's outbox. Atomic with the original: there is one of each, or, where the other
-- outbox is full, the original alone. Full is one with so many entries (OUTBOX_WITH_COPIES_MAX of
-- engine/limits.py): from then on copies are only counted, in `lost`, until all that stands there has been sent;
-- session_store.lua puts behind it how many are missing, and the next ones follow that.
-- A venue without drop copies pays one EXISTS per call; else one HGET per account and call, and two reads more
-- per taker of copies and call.

local OUTBOX_WITH_COPIES_MAX = 101000
local any_copies, copies_by_account = redis.call('EXISTS', 'copies') == 1, {}
local room, full = {}, {}

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

local function takes_copy(account)
  local left = room[account]
  if not left then
    local has_lost = redis.call('HEXISTS', 'lost', account) == 1
    left = has_lost and 0 or OUTBOX_WITH_COPIES_MAX - redis.call('XLEN', 'outbox:' .. account)
  end
  room[account] = left - 1
  if left > 0 then
    return true
  end
  if redis.call('HINCRBY', 'lost', account, 1) == 1 then
    local time = redis.call('TIME')
    redis.call('HSET', 'lost', account .. ':since', time[1] .. string.format('%06d', time[2]))
    full[#full + 1] = account
  end
  return false
end

