package main

import (
	"context"
	"fmt"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// luaLimit is how long Argo CD lets a script run.
const luaLimit = time.Second

// healths are the words that Argo CD takes as a script's answer.
var healths = map[string]bool{
	"Unknown": true, "Progressing": true, "Healthy": true, "Suspended": true, "Degraded": true, "Missing": true,
}

// runLua runs a health script as Argo CD does: the object is the global `obj`, no library is there but base, table
// and package, and the answer is a table with `status` and `message`.
func runLua(script string, object map[string]any) (health, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable,
	} {
		state.Push(state.NewFunction(open))
		state.Push(lua.LString(name))
		if err := state.PCall(1, 0, nil); err != nil {
			return health{}, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), luaLimit)
	defer cancel()
	state.SetContext(ctx)
	state.SetGlobal("obj", value(state, object))
	if err := state.DoString(script); err != nil {
		return health{}, err
	}
	answer, isTable := state.Get(-1).(*lua.LTable)
	if !isTable {
		return health{}, fmt.Errorf("its answer is a %s, not a table", state.Get(-1).Type())
	}
	told := health{text(answer, "status"), text(answer, "message")}
	if !healths[told.Status] {
		return health{}, fmt.Errorf("%q is no health", told.Status)
	}
	return told, nil
}

func text(table *lua.LTable, field string) string {
	found, isString := table.RawGetString(field).(lua.LString)
	if !isString {
		return ""
	}
	return string(found)
}

// value turns decoded JSON into Lua: lists count from 1, null is nil.
func value(state *lua.LState, decoded any) lua.LValue {
	switch one := decoded.(type) {
	case map[string]any:
		table := state.CreateTable(0, len(one))
		for name, inner := range one {
			table.RawSetString(name, value(state, inner))
		}
		return table
	case []any:
		table := state.CreateTable(len(one), 0)
		for _, inner := range one {
			table.Append(value(state, inner))
		}
		return table
	case string:
		return lua.LString(one)
	case bool:
		return lua.LBool(one)
	case int64:
		return lua.LNumber(one)
	case float64:
		return lua.LNumber(one)
	default:
		return lua.LNil
	}
}
