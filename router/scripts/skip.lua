-- Record that an input is to be passed over, and take the lease of its shard away.
--
-- KEYS  none (one server, several databases)
-- ARGV  1 symbol, 2 shard db, 3 incarnation, 4 seq, 5 the input as the operator has seen it, 6 reason
-- Reads   DB 0 home:{symbol}, settled. Shard DB home:{symbol}, orders:{symbol}
-- Writes  Shard DB skips:{symbol}, lease
--
-- Returns {'OK', epoch that the lease is at now}; or, and nothing is written:
--         {'HOME'}                 {'SETTLED', settled}     {'EARLY', settled}: not the next to be settled
--         {'ENTRY'}                the stream has no such input, or another one
--         {'SKIPPED'}              it is to be passed over already
--
-- Atomic, because settlement compares the same two: with the epoch raised in this step, nothing of this input
-- or a later one can be settled by an engine that has not read the skip; and what is settled stays.
-- An engine that acquires the lease afterwards reads the skips again before it leads.
-- All checks come before the first write. An engine commits what comes before an input that it cannot apply,
-- so that is the next to be settled. Limits: seq < 10^14; skips are made by hand, so they are few.

local call = redis.call
local symbol, db, incarnation, seq = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if call('HGET', 'home:' .. symbol, 'incarnation') ~= incarnation then
  return {'HOME'}
end
local settled = tonumber(call('HGET', 'settled', symbol) or 0)
if seq <= settled then
  return {'SETTLED', settled}
end
call('SELECT', db)

local function refusal()
  if call('GET', 'home:' .. symbol) ~= incarnation then
    return {'HOME'}
  end
  local id = ARGV[4] .. '-0'
  local entry = call('XRANGE', 'orders:' .. symbol, id, id)[1]
  if not entry or entry[2][2] ~= ARGV[5] then
    return {'ENTRY'}
  end
  if call('HEXISTS', 'skips:' .. symbol, ARGV[4]) == 1 then
    return {'SKIPPED'}
  end
  if seq ~= settled + 1 then
    return {'EARLY', settled}
  end
end

local answer = refusal()
if not answer then
  local time = call('TIME')
  local stamp = time[1] .. string.format('%06d', time[2])
  call('HSET', 'skips:' .. symbol, ARGV[4], stamp .. ' ' .. ARGV[6])
  local epoch = call('HINCRBY', 'lease', 'epoch', 1)
  call('HSET', 'lease', 'owner', '', 'until_ms', 0)
  answer = {'OK', epoch}
end
call('SELECT', 0)
return answer
