-- Publish a batch of outputs that have been settled.
--
-- KEYS  none (one server, several databases)
-- ARGV  1 msgpack, flat: shard db, lease owner, lease epoch, then two per symbol: name, incarnation
--       2 msgpack, flat, two per entry: symbol (1 = the first), seq
--       3… one per entry: the encoded Output
--       last: run id of the server
-- Reads   DB 0 cleared, home:{symbol}, settled. Shard DB cleared, lease, home:{symbol}, events:{symbol}
-- Writes  Shard DB events:{symbol}
--
-- Returns {'OK', entries published}
--         {'LEASE'}, {'UNCLEARED', db} or {'HOME', symbol}   nothing is written
--         {'DIFFERS', symbol, seq}                         likewise: other bytes stand there
--         {'GAP', symbol, expected, received}              likewise: not the next of the stream
--         {'UNSETTLED', symbol, settled, received}         likewise
--
-- Atomic, so that of two engines with the same epoch check and append cannot interleave. Idempotent:
-- what stands in the stream already is compared and left alone. Entries that have been trimmed away
-- cannot be compared and count as equal.
-- All checks come before the first write. Limits: 256 entries (callers cut), seq < 10^14.

local call, match, format = redis.call, string.match, string.format
local head, meta = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2])

local db, names, settled = head[1], {}, {}
-- What a repair puts back is published before the server is cleared.
local repairs = match(head[2], '^repair:')
call('SELECT', 0)
local refused = not repairs and not is_cleared() and {'UNCLEARED', 0} or nil
for h = 4, #head, 2 do
  local name = head[h]
  if call('HGET', 'home:' .. name, 'incarnation') ~= head[h + 1] then
    refused = refused or {'HOME', name}
  end
  names[#names + 1] = name
  settled[#names] = tonumber(call('HGET', 'settled', name)) or 0
end
call('SELECT', db)
local lease = call('HMGET', 'lease', 'owner', 'epoch')
if lease[1] ~= head[2] or tonumber(lease[2]) ~= head[3] then
  return {'LEASE'}
end
if not repairs and not is_cleared() then
  refused = {'UNCLEARED', db}
end
local streams, ends = {}, {}
for s = 1, #names do
  if call('GET', 'home:' .. names[s]) ~= head[2 * s + 3] then
    refused = refused or {'HOME', names[s]}
  end
  streams[s] = 'events:' .. names[s]
  local last = call('XREVRANGE', streams[s], '+', '-', 'COUNT', 1)[1]
  ends[s] = last and tonumber(match(last[1], '^(%d+)')) or 0
end
if refused then
  return refused
end

local new = {}
local expected = {}
for s = 1, #names do
  expected[s] = ends[s] + 1
end
for i = 1, #meta / 2 do
  local s, seq = meta[2 * i - 1], meta[2 * i]
  if seq > settled[s] then
    return {'UNSETTLED', names[s], settled[s], seq}
  end
  if seq <= ends[s] then
    local id = format('%d-0', seq)
    local stored = call('XRANGE', streams[s], id, id)[1]
    if stored and stored[2][2] ~= ARGV[i + 2] then
      return {'DIFFERS', names[s], seq}
    end
  elseif seq ~= expected[s] then
    return {'GAP', names[s], expected[s], seq}
  else
    expected[s] = seq + 1
    new[#new + 1] = i
  end
end
for n = 1, #new do
  local i = new[n]
  call('XADD', streams[meta[2 * i - 1]], format('%d-0', meta[2 * i]), 'e', ARGV[i + 2])
end
return {'OK', #new}
