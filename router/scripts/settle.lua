-- Settle a batch of outputs: move the money, tell the accounts, keep their open orders.
--
-- KEYS  none (one server, several databases)
-- ARGV  1 msgpack, flat: shard db, lease owner, lease epoch, then four per symbol:
--         name, incarnation, best bid and best ask in ticks after the symbol's last entry (0 = none)
--       2 msgpack, flat, per entry: symbol (1 = the first), seq,
--         number of changes, then three each: account, field of its balances, amount (decimal text)
--         number of reports, then one each: account
--         number of open orders, then three each: account, field, value ('' = delete)
--       3… the reports' encoded Outputs, in order
--       last: run id of the server
-- Reads   DB 0 cleared, home:{symbol}, settled; what copies.lua reads. Shard DB cleared, lease, home:{symbol}
-- Writes  DB 0 bal:, outbox:, open:{account}, settled, bbo; what copies.lua writes; PUBLISH wake
--
-- Returns {'OK', entries applied, accounts that take no more copies from this call on}
--         {'LEASE'}, {'UNCLEARED', db} or {'HOME', symbol}   nothing is written
--         {'GAP', symbol, expected, received}     the entries before it stand
--         {'NEGATIVE', symbol, seq, account, field}   likewise; nothing of this entry stands
--
-- Atomic, because balances, reports and `settled` must tell of the same inputs. Idempotent by (symbol,
-- seq): what is settled is skipped, whichever batch it comes in, so batches may be cut differently each
-- time; for the same reason nothing is summed over entries.
-- Amounts are never Lua numbers: text in, only the sign of HINCRBY's reply is looked at. An overflow of
-- int64 is taken back like a negative balance.
-- Limits: 256 entries (callers cut), seq < 10^14.

local call, try, match, format = redis.call, redis.pcall, string.match, string.format
local head, meta = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2])

local db = head[1]
-- What a repair puts back is settled before the server is cleared.
local repairs = match(head[2], '^repair:')
local refused = not repairs and not is_cleared() and {'UNCLEARED', 0} or nil
local names, settled, first, last_of = {}, {}, {}, {}
for h = 4, #head, 4 do
  local name = head[h]
  if call('HGET', 'home:' .. name, 'incarnation') ~= head[h + 1] then
    refused = refused or {'HOME', name}
  end
  names[#names + 1] = name
  settled[#names] = tonumber(call('HGET', 'settled', name)) or 0
  first[#names] = settled[#names]
end
call('SELECT', db)
local lease = call('HMGET', 'lease', 'owner', 'epoch')
if lease[1] ~= head[2] or tonumber(lease[2]) ~= head[3] then
  refused = {'LEASE'}
elseif not repairs and not is_cleared() then
  refused = {'UNCLEARED', db}
end
for h = 4, #head, 4 do
  if call('GET', 'home:' .. head[h]) ~= head[h + 1] then
    refused = refused or {'HOME', head[h]}
  end
end
call('SELECT', 0)
if refused then
  return refused
end

-- Keys by account, each put together once: to Lua a number in a text is a double to be printed.
local function prefixed(prefix)
  return setmetatable({}, {__index = function(keys, account)
    local key = prefix .. account
    keys[account] = key
    return key
  end})
end

local bal, outbox = prefixed('bal:'), prefixed('outbox:')
local numbers, wake = {}, {}

local function next_number(account)
  local number = numbers[account]
  if not number then
    local last = call('XREVRANGE', outbox[account], '+', '-', 'COUNT', 1)[1]
    number = last and tonumber(match(last[1], '^(%d+)')) or 0
    wake[#wake + 1] = account
  end
  number = number + 1
  numbers[account] = number
  return number
end

-- Put copies of a report, which has this number in the account's outbox, into those of others.
local function tell_others(account, number, output)
  for _, other in ipairs(copies_of(account) or {}) do
    if takes_copy(other) then
      call('XADD', outbox[other], format('%d-0', next_number(other)), 'a', account, 'i', number, 'e', output)
    end
  end
end

-- Take back the first `count` of the changes meta[p + 1 …].
local function undo(p, count)
  for i = p + 1, p + 3 * count, 3 do
    local amount = meta[i + 2]
    local back = string.sub(amount, 1, 1) == '-' and string.sub(amount, 2) or '-' .. amount
    call('HINCRBY', bal[meta[i]], meta[i + 1], back)
  end
end

-- Apply the changes meta[p + 1 …]. Returns nothing; or account and field of one that cannot be, with all
-- taken back; or Redis' refusal for lack of memory, which comes at the first write or not at all.
local function apply(p, count)
  for change = 1, count do
    local i = p + 3 * change - 2
    local result = try('HINCRBY', bal[meta[i]], meta[i + 1], meta[i + 2])
    if type(result) ~= 'number' then
      if string.find(result.err, 'OOM', 1, true) then
        return result
      end
      undo(p, change - 1)
      return meta[i], meta[i + 1]
    elseif result < 0 then
      undo(p, change)
      return meta[i], meta[i + 1]
    end
  end
end

-- Open orders are collected, because only the last word about each counts; written when all is applied.
local open_orders = {}

local function write_open_orders()
  for account, fields in pairs(open_orders) do
    local key, set, removed = 'open:' .. account, {}, {}
    for field, value in pairs(fields) do
      if value == '' then
        removed[#removed + 1] = field
      else
        set[#set + 1] = field
        set[#set + 1] = value
      end
    end
    -- Not more arguments at once than Lua's stack takes.
    for i = 1, #set, 1000 do
      call('HSET', key, unpack(set, i, math.min(i + 999, #set)))
    end
    for i = 1, #removed, 1000 do
      call('HDEL', key, unpack(removed, i, math.min(i + 999, #removed)))
    end
  end
end

local failed
local applied, p, report = 0, 0, 2
while p < #meta do
  local s, seq, changes = meta[p + 1], meta[p + 2], meta[p + 3]
  local changes_at = p + 3
  local reports_at = changes_at + 3 * changes + 1
  local reports = meta[reports_at]
  local opens_at = reports_at + reports + 1
  local opens = meta[opens_at]
  if seq > settled[s] then
    if seq ~= settled[s] + 1 then
      failed = {'GAP', names[s], settled[s] + 1, seq}
      break
    end
    local account, field = apply(changes_at, changes)
    if type(account) == 'table' then
      return account
    end
    if account then
      failed = {'NEGATIVE', names[s], seq, account, field}
      break
    end
    for i = 1, reports do
      account = meta[reports_at + i]
      local number = next_number(account)
      call('XADD', outbox[account], format('%d-0', number), 'e', ARGV[report + i])
      if any_copies then
        tell_others(account, number, ARGV[report + i])
      end
    end
    for i = opens_at, opens_at + 3 * (opens - 1), 3 do
      local fields = open_orders[meta[i + 1]]
      if not fields then
        fields = {}
        open_orders[meta[i + 1]] = fields
      end
      fields[meta[i + 2]] = meta[i + 3]
    end
    settled[s] = seq
    applied = applied + 1
  end
  last_of[s] = seq
  report = report + reports
  p = opens_at + 3 * opens
end

write_open_orders()
for s = 1, #names do
  if settled[s] > first[s] then
    call('HSET', 'settled', names[s], settled[s])
    if settled[s] == last_of[s] and not failed then
      local h = 4 * s
      call('HSET', 'bbo', names[s], head[h + 2] .. ' ' .. head[h + 3] .. ' ' .. settled[s])
    end
  end
end
if #wake > 0 then
  call('PUBLISH', 'wake', table.concat(wake, ' '))
end
return failed or {'OK', applied, full}
