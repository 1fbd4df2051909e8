-- The lua job: strings, tables that grow and shrink, closures, coroutines, a collector that works.   script.lua ROUNDS
local rounds = tonumber(arg[1] or "1")
local state = 12345
local function draw(bound) -- the same numbers on every machine: Lua's own generator starts with a random seed
    state = (state * 1103515245 + 12345) % 2147483648
    return state // 65536 % bound
end

local syllables = { "ka", "lo", "mi", "ne", "ru", "sha", "tor", "vel", "wix", "yan", "zo" }
local function word()
    local parts = {}
    for i = 1, 1 + draw(5) do parts[i] = syllables[1 + draw(#syllables)] end
    return table.concat(parts)
end

local function digest(text) -- FNV-1a
    local hash = 2166136261
    for i = 1, #text do hash = ((hash ~ text:byte(i)) * 16777619) & 0xffffffff end
    return hash
end

local function words_of_lines()
    local count, lines = {}, {}
    for number = 1, 8000 do
        local line = {}
        for i = 1, 1 + draw(10) do
            local each = word()
            line[i] = each
            count[each] = (count[each] or 0) + 1
        end
        lines[number] = table.concat(line, " ")
    end
    local sorted = {}
    for each in pairs(count) do sorted[#sorted + 1] = each end
    table.sort(sorted, function(a, b) return count[a] > count[b] or count[a] == count[b] and a < b end)
    return sorted, lines
end

local function tree(depth)
    if depth == 0 then return { value = draw(1000) } end
    return { left = tree(depth - 1), right = tree(depth - 1), name = "node" .. draw(100000) }
end

local function sum(node)
    if node.value then return node.value end
    return sum(node.left) + sum(node.right) + #node.name
end

local function producer(lines)
    return coroutine.wrap(function()
        for _, line in ipairs(lines) do
            for each in line:gmatch("%a+") do coroutine.yield(each) end
        end
    end)
end

local kept = {}
for round = 1, rounds do
    local sorted, lines = words_of_lines()
    local text = table.concat(lines, "\n")
    local swapped, changes = text:gsub("(%a+) (%a+)", "%2 %1")
    local last, repeats = "", 0
    for each in producer(lines) do
        if each == last then repeats = repeats + 1 end
        last = each
    end
    local counters = {}
    for i = 1, 20000 do
        local n = i
        counters[i] = function() n = n + draw(3); return n end
    end
    local total = 0
    for i = 1, #counters do total = total + counters[i]() end
    local queue = {}
    for i = 1, 60000 do
        queue[#queue + 1] = { i, ("item %d of %s"):format(i, sorted[1 + i % #sorted]) }
        if #queue > 500 then total = total + #table.remove(queue, 1 + draw(#queue))[2] end
    end
    kept[round % 4] = { sorted, tree(13), string.rep(text:sub(1, 1000), 50 + draw(50)) }
    print(("round %d: %d words, %d changes, %d repeats, total %d, tree %d, text %08x"):format(
        round, #sorted, changes, repeats, total, sum(kept[round % 4][2]), digest(swapped:sub(1, 100000))))
end
