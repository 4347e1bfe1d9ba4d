module perfusion/pause

go 1.26
