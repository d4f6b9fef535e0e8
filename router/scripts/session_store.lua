-- Store the application messages that gateways are about to send, of many FIX sessions in one call.
--
-- KEYS  none
-- ARGV  1 messages kept per session, 2 outbox entries kept behind the cursor
--       3 msgpack, flat, five per store: account, epoch, first and last MsgSeqNum, outbox cursor
--       4 run id of the server that the outboxes were read from; '' = whichever
--       5… one per store: the whole messages, one after the other; '' = only the cursor moves
--       last: run id of this server
-- Reads and writes  lost
-- Writes  sent:{account}:{number}, session:{account} cursor, stored, marks, outbox:{account}; trims both streams; PUBLISH wake
--
-- Returns one integer per store: 1 stored, 0 fenced; or {'ORDER', account, last}: that number is below what
-- is stored already and is not stored itself; the stores before it stand. {'SERVER'}: this is another server,
-- whose outboxes may be others; nothing is stored.
--
-- Atomic, because the cursor must say exactly which outbox entries have numbers. Sent again after a lost
-- reply it changes nothing: an entry that is there is left alone, and not counted again. Trimming is
-- approximate (whole nodes), and the outbox keeps its last entry, so its ids stay dense.
-- What is kept are messages that were stored, whatever numbers others (market data, heartbeats) took between
-- them. For each quarter of what is kept the last number is a mark: what is not behind the last four marks
-- goes. Messages stored since the last mark are counted, with their incarnation: another one begins anew.
-- Where copies were lost (copies.lua) and all before them has been sent now, the outbox gets an entry that says
-- so, at the place where they are missing; from then on it takes copies again.
-- Limits: numbers < 10^14.

if ARGV[4] ~= '' and ARGV[4] ~= ARGV[#ARGV] then
  return {'SERVER'}
end
local call = redis.call
local kept, behind = tonumber(ARGV[1]), tonumber(ARGV[2])
local stores = cmsgpack.unpack(ARGV[3])
local results, any_lost = {}, call('EXISTS', 'lost') == 1

local function tell_of_lost_copies(account, cursor)
  local outbox, since = 'outbox:' .. account, account .. ':since'
  local lost = call('HMGET', 'lost', account, since)
  if not lost[1] then
    return
  end
  local last = call('XREVRANGE', outbox, '+', '-', 'COUNT', 1)[1]
  local number = last and tonumber(string.match(last[1], '^(%d+)')) or 0
  if number > cursor then
    return
  end
  local time = call('TIME')
  call('XADD', outbox, string.format('%d-0', number + 1), 'l', lost[1], 'f', lost[2],
    't', time[1] .. string.format('%06d', time[2]))
  call('HDEL', 'lost', account, since)
  call('PUBLISH', 'wake', account)
end

local quarter = math.ceil(kept / 4)

-- Count messages of an incarnation that were stored just now, and trim its store.
local function count_stored(key, sent, number, stored, marks, count, last)
  local of, before = string.match(stored or '', '^(%d+) (%d+)$')
  if of == number then
    count = count + before
  else
    marks = ''
  end
  if count < quarter then
    call('HSET', key, 'stored', number .. ' ' .. count, 'marks', marks or '')
    return
  end
  local left = {}
  for mark in string.gmatch(marks .. ' ' .. last, '%d+') do
    left[#left + 1] = mark
  end
  if #left > 4 then
    call('XTRIM', sent, 'MINID', '~', left[1] + 1 .. '-0')
    table.remove(left, 1)
  end
  call('HSET', key, 'stored', number .. ' 0', 'marks', table.concat(left, ' '))
end

for i = 1, #stores / 5 do
  local p = 5 * i - 4
  local account, last, cursor = stores[p], stores[p + 3], stores[p + 4]
  local key = 'session:' .. account
  local s = call('HMGET', key, 'epoch', 'number', 'cursor', 'stored', 'marks')
  if tonumber(s[1]) ~= stores[p + 1] then
    results[i] = 0
  else
    if ARGV[i + 4] ~= '' then
      local sent, id = 'sent:' .. account .. ':' .. s[2], last .. '-0'
      local added = redis.pcall('XADD', sent, id, 'm', ARGV[i + 4], 'f', stores[p + 2])
      if type(added) ~= 'table' then
        count_stored(key, sent, s[2], s[4], s[5], last - stores[p + 2] + 1, last)
      elseif added.err then
        if string.find(added.err, 'OOM', 1, true) then
          return added
        end
        if #call('XRANGE', sent, id, id) == 0 then
          return {'ORDER', account, last}
        end
      end
    end
    -- A call that was thought lost may come after its successor: the cursor never falls.
    if cursor > (tonumber(s[3]) or 0) then
      call('HSET', key, 'cursor', cursor)
    end
    if cursor > behind then
      call('XTRIM', 'outbox:' .. account, 'MINID', '~', (cursor - behind) .. '-0')
    end
    if any_lost then
      tell_of_lost_copies(account, math.max(cursor, tonumber(s[3]) or 0))
    end
    results[i] = 1
  end
end
return results
