"""x"""
import sys, time
from tests.simulation.plan import make_plan
from tests.simulation.world import World
a=int(sys.argv[1]); b=int(sys.argv[2]) if len(sys.argv)>2 else a+1
t=time.perf_counter(); 
for seed in range(a,b):
    p=make_plan(seed)
    if b==a+1: print(p)
    r=World(p).run()
    if b==a+1 or r.failures: print(r)
print((b-a)/(time.perf_counter()-t)*60,'worlds/min')
