-- Compare the streams of a shard with its journal, and clear this server for what counts.
--
-- KEYS  none (one server, several databases)
-- ARGV  1 msgpack, flat: shard db, lease owner, lease epoch, last ledger entry in the journal (-1: the ledger
--         is another shard's), then three per symbol: name, last seq in the journal (0 = none), seq that
--         the caller has committed
--       2, 3 payload and stamp in µs of that ledger entry, then likewise of the last command of each
--         symbol; '' of what there is none of, or of which only the number is known
--       last: run id of the server
-- Reads   DB 0 ledger, settled. Shard DB lease, orders:{symbol}, events:{symbol}
-- Writes  cleared, in the shard DB; in DB 0 too where the ledger is the shard's
--
-- Returns {'OK'}
--         {'LEASE'}                                      nothing is written
--         {'LOST', {stream, first, last, ...}}           streams that end before the journal: not cleared
--         {'DIFFERS', stream, number}                    the entry is another one: not cleared
--         {'BEHIND', symbol, position, committed}        an outcome is missing: left as it was
--
-- Atomic, so that nothing changes between the look and the mark, and the mark is on the server that was
-- looked at. An entry that has been trimmed away cannot be compared and counts as equal: streams are
-- trimmed below what all have. All that is found missing is told at once.
-- Limits: some 10 µs per symbol; seq < 10^14.

local call, match, format = redis.call, string.match, string.format
local head = cmsgpack.unpack(ARGV[1])
local db, with_ledger = head[1], head[4] >= 0
local lost, refused = {}, nil

local function last_of(stream)
  local last = call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  return last and tonumber(match(last[1], '^(%d+)')) or 0
end

-- Compare a stream with the last entry that the journal has of it.
local function compare(stream, number, payload, stamp)
  local last = last_of(stream)
  if last < number then
    lost[#lost + 1] = stream
    lost[#lost + 1] = last + 1
    lost[#lost + 1] = number
  elseif number > 0 then
    local id = format('%d-0', number)
    local entry = call('XRANGE', stream, id, id)[1]
    if entry and payload ~= '' and (entry[2][2] ~= payload or entry[2][4] ~= stamp) then
      refused = {'DIFFERS', stream, number}
    end
  end
end

call('SELECT', db)
local lease = call('HMGET', 'lease', 'owner', 'epoch')
call('SELECT', 0)
if lease[1] ~= head[2] or tonumber(lease[2]) ~= head[3] then
  return {'LEASE'}
end
if with_ledger then
  compare('ledger', head[4], ARGV[2], ARGV[3])
end
local settled = {}
for h = 5, #head, 3 do
  settled[h] = tonumber(call('HGET', 'settled', head[h])) or 0
end
local behind
call('SELECT', db)
for h = 5, #head, 3 do
  local name, at = head[h], 2 * (h - 2) / 3
  compare('orders:' .. name, head[h + 1], ARGV[at + 2], ARGV[at + 3])
  local position = math.min(settled[h], last_of('events:' .. name))
  if position < head[h + 2] then
    behind = {'BEHIND', name, position, head[h + 2]}
  end
end
if #lost > 0 and not refused then
  refused = {'LOST', lost}
end
if behind and not refused then
  call('SELECT', 0)
  return behind
end
local mark = refused and '' or ARGV[#ARGV]
call('SET', 'cleared', mark)
call('SELECT', 0)
if with_ledger then
  call('SET', 'cleared', mark)
end
return refused or {'OK'}
