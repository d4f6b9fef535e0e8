-- Give a symbol its home, or change the rules of one that has a home.
--
-- KEYS  none (one server, several databases)
-- ARGV  1 symbol, 2 shard id, 3 shard db
--       4 incarnation expected at home; '' = there must be no home yet
--       5 incarnation to make, 6 version in force afterwards, 7 the encoded DefineSymbol
--       8 run id of the server
-- Reads   shard DB cleared
-- Reads and writes, DB 0: home:{symbol}, settled. Shard DB: home:{symbol}, orders:, events:{symbol}
--
-- Returns {'OK', seq of the DefineSymbol}
--         {'CHANGED'}         another process was faster: read the home again
--         {'UNCLEARED'}       a change must not take the place of commands that this server has lost
--         {'MIXED', what}     one half is missing, or there are streams without a home
--
-- Atomic, because a home in one database and not in the other, or a stream without its first entry,
-- is what all others take for a wrong URL or an emptied database.
-- Limits: version = old version + 1, checked here; symbols are defined one at a time, at start.

local call = redis.call
local symbol, shard, db, expected, incarnation, version, command =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local key, orders = 'home:' .. symbol, 'orders:' .. symbol

local here = call('HMGET', key, 'incarnation', 'rules')
local settled = call('HGET', 'settled', symbol)
call('SELECT', db)
local there = call('GET', key) or ''
local last = call('XREVRANGE', orders, '+', '-', 'COUNT', 1)[1]
local events = call('EXISTS', 'events:' .. symbol)

local function answer(reply)
  call('SELECT', 0)
  return reply
end

if (here[1] or '') ~= expected then
  return answer({'CHANGED'})
end
if there ~= expected then
  return answer({'MIXED', 'home'})
end
local seq, stamp = 1, nil
if expected == '' then
  if last or events == 1 or settled then
    return answer({'MIXED', 'streams'})
  end
else
  if not is_cleared(true) then
    return answer({'UNCLEARED'})
  end
  if not last then
    return answer({'MIXED', 'orders'})
  end
  if tonumber(here[2]) + 1 ~= tonumber(version) then
    return answer({'CHANGED'})
  end
  seq = tonumber(string.match(last[1], '^(%d+)')) + 1
  stamp = last[2][4]
end

local time = call('TIME')
local now = time[1] .. string.format('%06d', time[2])
if stamp and tonumber(stamp) > tonumber(now) then
  now = stamp
end
call('XADD', orders, seq .. '-0', 'c', command, 't', now)
call('SET', key, incarnation)
call('SELECT', 0)
call('HSET', key, 'shard', shard, 'db', db, 'incarnation', incarnation, 'rules', version,
  'define', command)
return {'OK', seq}
