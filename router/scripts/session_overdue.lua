-- Name the FIX sessions whose sequence numbers began before the last daily reset.
--
-- KEYS  none
-- ARGV  1 second of the UTC day of the reset, 2 msgpack: accounts
-- Reads  session:{account} began_ms
--
-- Returns those accounts.
--
-- Atomic, so that one look at the clock decides about all. It is Redis' clock, as at the next logon, which
-- gives them new numbers: whoever is named once and logs on again is not named a second time.
-- Limits: as many sessions as a gateway serves, 1 µs each.

local call = redis.call
local accounts = cmsgpack.unpack(ARGV[2])
local seconds = tonumber(call('TIME')[1])
local last_ms = (seconds - (seconds - ARGV[1]) % 86400) * 1000
local overdue = {}
for i = 1, #accounts do
  if (tonumber(call('HGET', 'session:' .. accounts[i], 'began_ms')) or 0) < last_ms then
    overdue[#overdue + 1] = accounts[i]
  end
end
return overdue
